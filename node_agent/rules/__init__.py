"""The smaller rules that a policy is made of: values that are checked when the file is read, and asked afterwards."""
