"""Where clouds tell a machine who it is: whoever reaches these addresses can be the machine.

DNS at such an address is left alone: it gives no credentials, and without it commands could reach nothing. On Google
Cloud the first address is the machine's resolver too, on Azure that of the wire server.
"""

from ipaddress import IPv4Address, IPv6Address

IPV4 = (
    IPv4Address("169.254.169.254"),  # AWS, Azure, Google Cloud, Oracle, OpenStack, DigitalOcean, …
    IPv4Address("169.254.170.2"),  # credentials of ECS tasks
    IPv4Address("169.254.170.23"),  # credentials of EKS pods
    IPv4Address("100.100.100.200"),  # Alibaba Cloud
)
IPV6 = (
    IPv6Address("fd00:ec2::254"),  # AWS
    IPv6Address("fd00:ec2::23"),  # credentials of EKS pods
    IPv6Address("fd20:ce::254"),  # Google Cloud
    IPv6Address("fd00:c1::a9fe:a9fe"),  # Oracle
    IPv6Address("fe80::a9fe:a9fe"),  # OpenStack
)
WIRE_SERVER = IPv4Address("168.63.129.16")
"""Azure's: it hands out the settings of extensions, beside DNS and health probes."""
WIRE_SERVER_PORTS = (80, 32526)
DNS_PORT = 53
