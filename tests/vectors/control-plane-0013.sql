-- A control plane's database of schema 0013, by SQLite's `.dump`: a workspace with two nodes, a relay, commands, an init
-- script, a secret and a lock. What was logged and counted beside is left out.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO alembic_version VALUES('0013');
CREATE TABLE accounts (
	account_id VARCHAR(255) NOT NULL, 
	page_key VARCHAR(255) NOT NULL, 
	trust_sequence BIGINT NOT NULL, 
	trust_change_time BIGINT NOT NULL, 
	trust_fingerprint VARCHAR(255), 
	creation_time BIGINT NOT NULL, 
	CONSTRAINT pk_accounts PRIMARY KEY (account_id)
);
INSERT INTO accounts VALUES('ac-5yxtf62a5dipaaqlbbum','P3WXNpeEz4IJt4/JSsi7bKMVIRtrLZwVG8SqGnfRmgw=',6,1795764833839,'25ae9a5e23ebffa9f06d6a55cbc11dc84fe1072189692ba91fd10c221ff36794',1795764823276);
CREATE TABLE audit_events (
	event_id INTEGER NOT NULL, 
	time BIGINT NOT NULL, 
	actor VARCHAR(512) NOT NULL, 
	action VARCHAR(255) NOT NULL, 
	outcome VARCHAR(255) NOT NULL, 
	resource VARCHAR(512), 
	workspace_id VARCHAR(255), 
	request_id VARCHAR(255), 
	source_address VARCHAR(255), 
	details JSON NOT NULL, 
	CONSTRAINT pk_audit_events PRIMARY KEY (event_id)
);
INSERT INTO audit_events VALUES(1,1795764823276,'local/init','account.create','ok','ac-5yxtf62a5dipaaqlbbum',NULL,NULL,NULL,'{}');
INSERT INTO audit_events VALUES(2,1795764823335,'local/init','operator.create','ok','op-o5qq62i4jexktgm576ka',NULL,NULL,NULL,'{}');
CREATE TABLE certificates (
	serial VARCHAR(255) NOT NULL, 
	subject_kind VARCHAR(255) NOT NULL, 
	subject_id VARCHAR(255) NOT NULL, 
	origin VARCHAR(255) NOT NULL, 
	csr_sha256 VARCHAR(255) NOT NULL, 
	chain TEXT NOT NULL, 
	issue_time BIGINT NOT NULL, 
	expire_time BIGINT NOT NULL, 
	confirm_time BIGINT, sealing_key VARCHAR(255), 
	CONSTRAINT pk_certificates PRIMARY KEY (serial)
);
INSERT INTO certificates VALUES('5c9bc433995cbfab9ad49142f037a718d24fd8db','relay','rl-35cms7qvovwkb4uskwtp','enrol','ad81068bd03b30675b213be347356b65841d60670e2b6bbb0b7cc385fa6c936b',replace('-----BEGIN CERTIFICATE-----\nMIICGzCCAcGgAwIBAgIUXJvEM5lcv6ua1JFC8DenGNJP2NswCgYIKoZIzj0EAwIw\nJTEjMCEGA1UEAwwadHJ1bmtsaW5lLmludGVybmFsIGlzc3VpbmcwHhcNMjYxMTI3\nMDcyODQ1WhcNMjYxMTI3MDczNjAwWjAiMSAwHgYDVQQDDBdybC0zNWNtczdxdm92\nd2tiNHVza3d0cDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABH5F14B/D3lbMift\nP10erJck/C/UFN0Vb2OrhdDgkDcdpzavNor5hrQPpbOp7GO2zd10GKqbwMU0hYmG\nkZ6z9QejgdEwgc4wHQYDVR0OBBYEFGzX/WgrB4GFj3jG6qoIcNe/ZUYqMAwGA1Ud\nEwEB/wQCMAAwDgYDVR0PAQH/BAQDAgeAMB0GA1UdJQQWMBQGCCsGAQUFBwMBBggr\nBgEFBQcDAjBPBgNVHREESDBGhjlzcGlmZmU6Ly90cnVua2xpbmUuaW50ZXJuYWwv\ncmVsYXkvcmwtMzVjbXM3cXZvdndrYjR1c2t3dHCCCWxvY2FsaG9zdDAfBgNVHSME\nGDAWgBSCec5D6jbRTqJokznlxXpoBjyLGTAKBggqhkjOPQQDAgNIADBFAiA5+Wcu\nB2C0DA7wL3u3q4obN3zuJFtaiMFNA9Bfm+vYXgIhAPU7bAKuIp0QKfxK5HyuN0x7\n+/WQX6ACY66C/AE38Qox\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nMIIBsDCCAVWgAwIBAgIUOKfgBeWef4NDEVkAhYst5p5Ma9owCgYIKoZIzj0EAwIw\nIjEgMB4GA1UEAwwXdHJ1bmtsaW5lLmludGVybmFsIHJvb3QwHhcNMjYxMTI3MDcy\nODQzWhcNMzExMTI2MDczMzQzWjAlMSMwIQYDVQQDDBp0cnVua2xpbmUuaW50ZXJu\nYWwgaXNzdWluZzBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABL/t87eI/sq1nuUN\nF/fUGf4zsHce2sl608bMU1pfVqF1k3BUN6MNA+13cN6oKH9g5/dlSmBdEddtkXwD\nh/L4/+GjZjBkMB0GA1UdDgQWBBSCec5D6jbRTqJokznlxXpoBjyLGTASBgNVHRMB\nAf8ECDAGAQH/AgEAMA4GA1UdDwEB/wQEAwIBBjAfBgNVHSMEGDAWgBT4juvdycW6\noK0IfMRZE30DP4hKlzAKBggqhkjOPQQDAgNJADBGAiEA9Lx7YzLi144A2YqiOrFM\n28M88M2+8AY3oeGwUdKluhACIQCrCVJwhXPfRt7W++0qnb13EJQvPtFFx10jb+X/\ndRQEWg==\n-----END CERTIFICATE-----\n','\n',char(10)),1795764825481,1795764960000,NULL,NULL);
INSERT INTO certificates VALUES('58fc4cc18ecd4e3297e45e378609aaeb283e69e2','node','nd-kcwl6wrqsvipldzoboao','bootstrap','c4025c8f174061f34fae62294d8c7d9141fb87f8868b97af774d6abd71345a55',replace('-----BEGIN CERTIFICATE-----\nMIICMDCCAdegAwIBAgIUWPxMwY7NTjKX5F43hgmq6yg+aeIwCgYIKoZIzj0EAwIw\nJTEjMCEGA1UEAwwadHJ1bmtsaW5lLmludGVybmFsIGlzc3VpbmcwHhcNMjYxMTI3\nMDcyODQ2WhcNMjYxMTI4MDczMzQ2WjAiMSAwHgYDVQQDDBduZC1rY3dsNndycXN2\naXBsZHpvYm9hbzBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABMiBb5WdNXjxQtUT\nK3fOj+FSW8Z4qyMgYbGyM/ryNUNF7NwCGzoI1YvRTytP1RKwCY5X856iJSCl8t1n\nVexQkvyjgecwgeQwHQYDVR0OBBYEFBWYYYm78TRo8OtAeFru/AdA70nvMAwGA1Ud\nEwEB/wQCMAAwDgYDVR0PAQH/BAQDAgeAMB0GA1UdJQQWMBQGCCsGAQUFBwMBBggr\nBgEFBQcDAjBlBgNVHREEXjBchlpzcGlmZmU6Ly90cnVua2xpbmUuaW50ZXJuYWwv\nd29ya3NwYWNlL3dzLTU2dGVvdmJ2YXp6bHp1NXh5eno1L25vZGUvbmQta2N3bDZ3\ncnFzdmlwbGR6b2JvYW8wHwYDVR0jBBgwFoAUgnnOQ+o20U6iaJM55cV6aAY8ixkw\nCgYIKoZIzj0EAwIDRwAwRAIgOHsawCBY1ji+LXziQO3mcR6Mf0ZHbfMAoo5ryNP2\n0vYCIHSabahHKFYEMe/UuLk79sSDXsIwyIcPhXzdsXUFAcbt\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nMIIBsDCCAVWgAwIBAgIUOKfgBeWef4NDEVkAhYst5p5Ma9owCgYIKoZIzj0EAwIw\nIjEgMB4GA1UEAwwXdHJ1bmtsaW5lLmludGVybmFsIHJvb3QwHhcNMjYxMTI3MDcy\nODQzWhcNMzExMTI2MDczMzQzWjAlMSMwIQYDVQQDDBp0cnVua2xpbmUuaW50ZXJu\nYWwgaXNzdWluZzBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABL/t87eI/sq1nuUN\nF/fUGf4zsHce2sl608bMU1pfVqF1k3BUN6MNA+13cN6oKH9g5/dlSmBdEddtkXwD\nh/L4/+GjZjBkMB0GA1UdDgQWBBSCec5D6jbRTqJokznlxXpoBjyLGTASBgNVHRMB\nAf8ECDAGAQH/AgEAMA4GA1UdDwEB/wQEAwIBBjAfBgNVHSMEGDAWgBT4juvdycW6\noK0IfMRZE30DP4hKlzAKBggqhkjOPQQDAgNJADBGAiEA9Lx7YzLi144A2YqiOrFM\n28M88M2+8AY3oeGwUdKluhACIQCrCVJwhXPfRt7W++0qnb13EJQvPtFFx10jb+X/\ndRQEWg==\n-----END CERTIFICATE-----\n','\n',char(10)),1795764826221,1795851226000,1795764826250,'uDdW4J6SHopnnvqwdHWhSo7jQW-MxINzcDGTwbwRXBg');
INSERT INTO certificates VALUES('71c712c697a573acb34c2a52e50f3e7c5fb94858','node','nd-ryl4x737yvdchewo4vm4','bootstrap','2f4666e8508865f38470f733dc9dc6cafb2a254420922dc5c30e9eddbabece0f',replace('-----BEGIN CERTIFICATE-----\nMIICMDCCAdegAwIBAgIUcccSxpelc6yzTCpS5Q8+fF+5SFgwCgYIKoZIzj0EAwIw\nJTEjMCEGA1UEAwwadHJ1bmtsaW5lLmludGVybmFsIGlzc3VpbmcwHhcNMjYxMTI3\nMDcyODQ3WhcNMjYxMTI4MDczMzQ3WjAiMSAwHgYDVQQDDBduZC1yeWw0eDczN3l2\nZGNoZXdvNHZtNDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABFvQDJzGSG7TNFV6\nkSOj6ioAogaO+5XXn6UEVFeNnbQ7XrkMra1La6ycWV2QdKTE9ow01LJlQAkHqZiR\nMXRn5NKjgecwgeQwHQYDVR0OBBYEFJ0IYtBzkjb5j4TDWyYITTzS897qMAwGA1Ud\nEwEB/wQCMAAwDgYDVR0PAQH/BAQDAgeAMB0GA1UdJQQWMBQGCCsGAQUFBwMBBggr\nBgEFBQcDAjBlBgNVHREEXjBchlpzcGlmZmU6Ly90cnVua2xpbmUuaW50ZXJuYWwv\nd29ya3NwYWNlL3dzLTU2dGVvdmJ2YXp6bHp1NXh5eno1L25vZGUvbmQtcnlsNHg3\nMzd5dmRjaGV3bzR2bTQwHwYDVR0jBBgwFoAUgnnOQ+o20U6iaJM55cV6aAY8ixkw\nCgYIKoZIzj0EAwIDRwAwRAIgW5eAE8yHHSPudrjKI7lcxPBjs0qmt2Lgpwet+4XD\nWW8CIGm7myb5a1JvFTzmC2m6pk6pZxqVv3LP+/1mKHJNSSRK\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nMIIBsDCCAVWgAwIBAgIUOKfgBeWef4NDEVkAhYst5p5Ma9owCgYIKoZIzj0EAwIw\nIjEgMB4GA1UEAwwXdHJ1bmtsaW5lLmludGVybmFsIHJvb3QwHhcNMjYxMTI3MDcy\nODQzWhcNMzExMTI2MDczMzQzWjAlMSMwIQYDVQQDDBp0cnVua2xpbmUuaW50ZXJu\nYWwgaXNzdWluZzBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABL/t87eI/sq1nuUN\nF/fUGf4zsHce2sl608bMU1pfVqF1k3BUN6MNA+13cN6oKH9g5/dlSmBdEddtkXwD\nh/L4/+GjZjBkMB0GA1UdDgQWBBSCec5D6jbRTqJokznlxXpoBjyLGTASBgNVHRMB\nAf8ECDAGAQH/AgEAMA4GA1UdDwEB/wQEAwIBBjAfBgNVHSMEGDAWgBT4juvdycW6\noK0IfMRZE30DP4hKlzAKBggqhkjOPQQDAgNJADBGAiEA9Lx7YzLi144A2YqiOrFM\n28M88M2+8AY3oeGwUdKluhACIQCrCVJwhXPfRt7W++0qnb13EJQvPtFFx10jb+X/\ndRQEWg==\n-----END CERTIFICATE-----\n','\n',char(10)),1795764827427,1795851227000,1795764827463,'tx-8oxmOyF0t_OUXJAjcTnZzI8kt32e0AQb8W65FaSo');
CREATE TABLE challenges (
	nonce_sha256 VARCHAR(255) NOT NULL, 
	expire_time BIGINT NOT NULL, 
	CONSTRAINT pk_challenges PRIMARY KEY (nonce_sha256)
);
CREATE TABLE issued_answers (
	credential_sha256 VARCHAR(255) NOT NULL, 
	csr_sha256 VARCHAR(255) NOT NULL, 
	subject_id VARCHAR(255) NOT NULL, 
	answer JSON NOT NULL, 
	expire_time BIGINT NOT NULL, 
	CONSTRAINT pk_issued_answers PRIMARY KEY (credential_sha256, csr_sha256)
);
CREATE TABLE operators (
	operator_id VARCHAR(255) NOT NULL, 
	token_sha256 VARCHAR(255) NOT NULL, 
	creation_time BIGINT NOT NULL, 
	CONSTRAINT pk_operators PRIMARY KEY (operator_id), 
	CONSTRAINT uq_operators_token_sha256 UNIQUE (token_sha256)
);
INSERT INTO operators VALUES('op-o5qq62i4jexktgm576ka','2d9d2f9fb174cd3224d736d078d6ba4c0869c903c796326c3db12b0c26da9339',1795764823335);
CREATE TABLE relay_join_tokens (
	join_token_id VARCHAR(255) NOT NULL, 
	token_sha256 VARCHAR(255) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	dns_names JSON NOT NULL, 
	relay_id VARCHAR(255), 
	expire_time BIGINT NOT NULL, 
	creation_time BIGINT NOT NULL, 
	CONSTRAINT pk_relay_join_tokens PRIMARY KEY (join_token_id), 
	CONSTRAINT uq_relay_join_tokens_token_sha256 UNIQUE (token_sha256)
);
INSERT INTO relay_join_tokens VALUES('rj-h7ibexoc6t433qyjfrx7','ce55e3dccd794510cec6944cbaf2cde571bcd2a11fdf78d6e8c57595d3f95ab4','relay','["localhost"]','rl-35cms7qvovwkb4uskwtp',1795765424922,1795764824922);
CREATE TABLE relays (
	relay_id VARCHAR(255) NOT NULL, 
	relay VARCHAR(255) NOT NULL, 
	dns_names JSON NOT NULL, 
	url VARCHAR(255), 
	trust_sequence BIGINT, 
	creation_time BIGINT NOT NULL, 
	last_seen_time BIGINT, 
	CONSTRAINT pk_relays PRIMARY KEY (relay_id), 
	CONSTRAINT uq_relays_relay UNIQUE (relay)
);
INSERT INTO relays VALUES('rl-35cms7qvovwkb4uskwtp','relay','["localhost"]','https://localhost:35091',6,1795764825481,1795764835934);
CREATE TABLE revocations (
	kind VARCHAR(255) NOT NULL, 
	id VARCHAR(255) NOT NULL, 
	sequence BIGINT NOT NULL, 
	expire_time BIGINT, 
	creation_time BIGINT NOT NULL, 
	revoked_by VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_revocations PRIMARY KEY (kind, id)
);
INSERT INTO revocations VALUES('token','none',6,1798443233839,1795764833839,'operator/op-o5qq62i4jexktgm576ka');
CREATE TABLE report_totals (
	relay_id VARCHAR(255) NOT NULL, 
	hour BIGINT NOT NULL, 
	type VARCHAR(255) NOT NULL, 
	outcome VARCHAR(255) NOT NULL, 
	total BIGINT NOT NULL, 
	CONSTRAINT pk_report_totals PRIMARY KEY (relay_id, hour, type, outcome), 
	CONSTRAINT fk_report_totals_relay_id_relays FOREIGN KEY(relay_id) REFERENCES relays (relay_id) ON DELETE CASCADE
);
CREATE TABLE reporters (
	relay_id VARCHAR(255) NOT NULL, 
	reporter VARCHAR(255) NOT NULL, 
	sequence BIGINT NOT NULL, 
	dropped BIGINT NOT NULL, 
	time BIGINT NOT NULL, 
	CONSTRAINT pk_reporters PRIMARY KEY (relay_id, reporter), 
	CONSTRAINT fk_reporters_relay_id_relays FOREIGN KEY(relay_id) REFERENCES relays (relay_id) ON DELETE CASCADE
);
CREATE TABLE workspaces (
	workspace_id VARCHAR(255) NOT NULL, 
	account_id VARCHAR(255) NOT NULL, 
	workspace VARCHAR(255) NOT NULL, 
	creation_time BIGINT NOT NULL, quotas JSON, 
	CONSTRAINT pk_workspaces PRIMARY KEY (workspace_id), 
	CONSTRAINT fk_workspaces_account_id_accounts FOREIGN KEY(account_id) REFERENCES accounts (account_id), 
	CONSTRAINT uq_workspaces_workspace UNIQUE (workspace)
);
INSERT INTO workspaces VALUES('ws-56teovbvazzlzu5xyzz5','ac-5yxtf62a5dipaaqlbbum','finance',1795764824907,'{"workspace": {"calls_per_second": 500}, "sender": {}}');
CREATE TABLE clusters (
	cluster_id VARCHAR(255) NOT NULL, 
	workspace_id VARCHAR(255) NOT NULL, 
	cluster VARCHAR(255) NOT NULL, 
	creation_time BIGINT NOT NULL, 
	CONSTRAINT pk_clusters PRIMARY KEY (cluster_id), 
	CONSTRAINT fk_clusters_workspace_id_workspaces FOREIGN KEY(workspace_id) REFERENCES workspaces (workspace_id), 
	CONSTRAINT uq_clusters_workspace_id_cluster UNIQUE (workspace_id, cluster)
);
INSERT INTO clusters VALUES('cl-2zbpcgfghp4nbbdkfjn6','ws-56teovbvazzlzu5xyzz5','c1',1795764836380);
CREATE TABLE nodes (
	node_id VARCHAR(255) NOT NULL, 
	workspace_id VARCHAR(255) NOT NULL, 
	node VARCHAR(255) NOT NULL, 
	attested_as VARCHAR(1024), 
	sealing_key VARCHAR(255) NOT NULL, 
	agent_version VARCHAR(255) NOT NULL, 
	host VARCHAR(255), 
	state VARCHAR(255) NOT NULL, 
	state_reason VARCHAR(1024), 
	state_time BIGINT NOT NULL, 
	health JSON, 
	health_time BIGINT, 
	creation_time BIGINT NOT NULL, 
	confirm_time BIGINT, 
	last_seen_time BIGINT, 
	relay_id VARCHAR(255), 
	trust_sequence BIGINT, machine_resource VARCHAR(2048), attest_time BIGINT, join_policy_id VARCHAR(255), trust_time BIGINT, 
	CONSTRAINT pk_nodes PRIMARY KEY (node_id), 
	CONSTRAINT fk_nodes_workspace_id_workspaces FOREIGN KEY(workspace_id) REFERENCES workspaces (workspace_id), 
	CONSTRAINT uq_nodes_workspace_id_attested_as UNIQUE (workspace_id, attested_as), 
	CONSTRAINT uq_nodes_workspace_id_node UNIQUE (workspace_id, node)
);
INSERT INTO nodes VALUES('nd-kcwl6wrqsvipldzoboao','ws-56teovbvazzlzu5xyzz5','vm-1',NULL,'uDdW4J6SHopnnvqwdHWhSo7jQW-MxINzcDGTwbwRXBg','0.1.0',NULL,'online',NULL,1795764826410,'{"status": "ok", "node_id": "nd-kcwl6wrqsvipldzoboao", "host": "vm", "agent_version": "0.1.0", "uptime_seconds": 42103.265, "boot_time": 1795722731000, "load": [2.94091796875, 3.06982421875, 3.63134765625], "memory": {"total_bytes": 25276502016, "available_bytes": 20482060288}, "disk": {"total_bytes": 270553174016, "free_bytes": 66029072384}, "pressure": {"cpu": {"some": {"avg10": 25.97, "avg60": 32.18, "avg300": 31.99}, "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0}}, "memory": {"some": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0}, "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0}}, "io": {"some": {"avg10": 3.93, "avg60": 3.48, "avg300": 2.31}, "full": {"avg10": 2.22, "avg60": 1.57, "avg300": 0.64}}}, "clock_offset_seconds": 0.044, "clock_skew": false, "checks": [], "trust_sequence": 6, "certificate_root": "939662ce9a08ec6af43c8b0178e1559e49788adfafd96d707354396700696803", "listen_token_key": "CLsxSNb1AwQUUMQU3cr4XPejvBj-Nm-oFUSu2n6CBLM", "metadata_block": {"mode": "off", "state": "off", "users": [], "open_to": []}, "commands": {"running": 0, "queued": 0}, "init": {"state": "READY", "run": 1}}',1795764835253,1795764826221,1795764826250,1795764835253,'rl-35cms7qvovwkb4uskwtp',6,NULL,NULL,NULL,1795764831465);
INSERT INTO nodes VALUES('nd-ryl4x737yvdchewo4vm4','ws-56teovbvazzlzu5xyzz5','vm-2',NULL,'tx-8oxmOyF0t_OUXJAjcTnZzI8kt32e0AQb8W65FaSo','0.1.0',NULL,'offline','the node is locked',1795764833143,'{"status": "ok", "node_id": "nd-ryl4x737yvdchewo4vm4", "host": "vm", "agent_version": "0.1.0", "uptime_seconds": 42097.911, "boot_time": 1795722731000, "load": [2.8486328125, 3.0537109375, 3.62890625], "memory": {"total_bytes": 25276502016, "available_bytes": 20817661952}, "disk": {"total_bytes": 270553174016, "free_bytes": 66026233856}, "pressure": {"cpu": {"some": {"avg10": 21.95, "avg60": 32.17, "avg300": 31.98}, "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0}}, "memory": {"some": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0}, "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0}}, "io": {"some": {"avg10": 3.49, "avg60": 3.39, "avg300": 2.26}, "full": {"avg10": 2.19, "avg60": 1.52, "avg300": 0.61}}}, "clock_offset_seconds": 0.452, "clock_skew": false, "checks": [], "trust_sequence": 4, "certificate_root": "939662ce9a08ec6af43c8b0178e1559e49788adfafd96d707354396700696803", "listen_token_key": "CLsxSNb1AwQUUMQU3cr4XPejvBj-Nm-oFUSu2n6CBLM", "metadata_block": {"mode": "off", "state": "off", "users": [], "open_to": []}, "commands": {"running": 0, "queued": 0}, "init": {"state": "READY", "run": 1}}',1795764829894,1795764827427,1795764827463,1795764829894,'rl-35cms7qvovwkb4uskwtp',4,NULL,NULL,NULL,1795764830147);
CREATE TABLE cluster_members (
	cluster_id VARCHAR(255) NOT NULL, 
	node_id VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_cluster_members PRIMARY KEY (cluster_id, node_id), 
	CONSTRAINT fk_cluster_members_cluster_id_clusters FOREIGN KEY(cluster_id) REFERENCES clusters (cluster_id) ON DELETE CASCADE, 
	CONSTRAINT fk_cluster_members_node_id_nodes FOREIGN KEY(node_id) REFERENCES nodes (node_id) ON DELETE CASCADE
);
CREATE TABLE health_observations (
	observation_id INTEGER NOT NULL, 
	node_id VARCHAR(255) NOT NULL, 
	time BIGINT NOT NULL, 
	state VARCHAR(255) NOT NULL, 
	result VARCHAR(255) NOT NULL, 
	reason VARCHAR(1024), 
	rtt_milliseconds BIGINT, 
	CONSTRAINT pk_health_observations PRIMARY KEY (observation_id), 
	CONSTRAINT fk_health_observations_node_id_nodes FOREIGN KEY(node_id) REFERENCES nodes (node_id) ON DELETE CASCADE
);
CREATE TABLE join_tokens (
	join_token_id VARCHAR(255) NOT NULL, 
	workspace_id VARCHAR(255) NOT NULL, 
	token_sha256 VARCHAR(255) NOT NULL, 
	node_name VARCHAR(255), 
	labels JSON NOT NULL, 
	cluster_id VARCHAR(255), 
	uses BIGINT NOT NULL, 
	used BIGINT NOT NULL, 
	expire_time BIGINT NOT NULL, 
	creation_time BIGINT NOT NULL, 
	CONSTRAINT pk_join_tokens PRIMARY KEY (join_token_id), 
	CONSTRAINT fk_join_tokens_cluster_id_clusters FOREIGN KEY(cluster_id) REFERENCES clusters (cluster_id) ON DELETE SET NULL, 
	CONSTRAINT fk_join_tokens_workspace_id_workspaces FOREIGN KEY(workspace_id) REFERENCES workspaces (workspace_id), 
	CONSTRAINT uq_join_tokens_token_sha256 UNIQUE (token_sha256)
);
INSERT INTO join_tokens VALUES('jt-hq775kfax6tv52dlvg3c','ws-56teovbvazzlzu5xyzz5','2c446ae38a80fda67b0a331eb2aad809839423f96c64a5aa5e6784ccfad1a33a','vm-1','{}',NULL,1,1,1795765425549,1795764825549);
INSERT INTO join_tokens VALUES('jt-6mnrndccaeigqtf7zrfl','ws-56teovbvazzlzu5xyzz5','e889a525d4ce74fdd9be6234c41dd54f59a2b2ad39c314bb28dd2f3ea6b97e88','vm-2','{}',NULL,1,1,1795765426831,1795764826831);
CREATE TABLE node_labels (
	node_id VARCHAR(255) NOT NULL, 
	label VARCHAR(255) NOT NULL, 
	label_value VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_node_labels PRIMARY KEY (node_id, label), 
	CONSTRAINT fk_node_labels_node_id_nodes FOREIGN KEY(node_id) REFERENCES nodes (node_id) ON DELETE CASCADE
);
CREATE TABLE secret_scopes (
	workspace_id VARCHAR(255) NOT NULL, 
	scope VARCHAR(255) NOT NULL, 
	creation_time BIGINT NOT NULL, 
	created_by VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_secret_scopes PRIMARY KEY (workspace_id, scope), 
	CONSTRAINT fk_secret_scopes_workspace_id_workspaces FOREIGN KEY(workspace_id) REFERENCES workspaces (workspace_id) ON DELETE CASCADE
);
INSERT INTO secret_scopes VALUES('ws-56teovbvazzlzu5xyzz5','db',1795764828021,'operator/op-o5qq62i4jexktgm576ka');
CREATE TABLE secrets (
	workspace_id VARCHAR(255) NOT NULL, 
	scope VARCHAR(255) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	version BIGINT NOT NULL, 
	sealed BLOB NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	update_time BIGINT NOT NULL, 
	updated_by VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_secrets PRIMARY KEY (workspace_id, scope, "key"), 
	CONSTRAINT fk_secrets_workspace_id_secret_scopes FOREIGN KEY(workspace_id, scope) REFERENCES secret_scopes (workspace_id, scope) ON DELETE CASCADE
);
INSERT INTO secrets VALUES('ws-56teovbvazzlzu5xyzz5','db','pw',1,X'567bf0738f67b4965540e27ecab4f4d9830e94a295e1a411662465d0f6c6b2c94a3039',7,1795764828455,'operator/op-o5qq62i4jexktgm576ka');
CREATE TABLE secret_data_keys (
	workspace_id VARCHAR(255) NOT NULL, 
	key_id VARCHAR(255) NOT NULL, 
	wrapped BLOB NOT NULL, 
	last_version BIGINT NOT NULL, 
	creation_time BIGINT NOT NULL, 
	CONSTRAINT pk_secret_data_keys PRIMARY KEY (workspace_id), 
	CONSTRAINT fk_secret_data_keys_workspace_id_workspaces FOREIGN KEY(workspace_id) REFERENCES workspaces (workspace_id) ON DELETE CASCADE
);
INSERT INTO secret_data_keys VALUES('ws-56teovbvazzlzu5xyzz5','kek-100e4358a84e37602484',X'435c94fd2fe1fe93c9faa6d46f672910e0a825843f9a531c0d289153ab6cb803abda1eddebf9f4fad0a19782b392529d19d923c7e1c2acabb1def921',1,1795764828455);
CREATE TABLE secret_grants (
	grant_id VARCHAR(255) NOT NULL, 
	workspace_id VARCHAR(255) NOT NULL, 
	scope VARCHAR(255) NOT NULL, 
	node_id VARCHAR(255), 
	cluster_id VARCHAR(255), 
	selector JSON, 
	creation_time BIGINT NOT NULL, 
	created_by VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_secret_grants PRIMARY KEY (grant_id), 
	CONSTRAINT fk_secret_grants_cluster_id_clusters FOREIGN KEY(cluster_id) REFERENCES clusters (cluster_id) ON DELETE CASCADE, 
	CONSTRAINT fk_secret_grants_node_id_nodes FOREIGN KEY(node_id) REFERENCES nodes (node_id) ON DELETE CASCADE, 
	CONSTRAINT fk_secret_grants_workspace_id_secret_scopes FOREIGN KEY(workspace_id, scope) REFERENCES secret_scopes (workspace_id, scope) ON DELETE CASCADE
);
INSERT INTO secret_grants VALUES('sg-dtsucldrtra3u4lndxew','ws-56teovbvazzlzu5xyzz5','db',NULL,NULL,'{}',1795764828877,'operator/op-o5qq62i4jexktgm576ka');
CREATE TABLE secret_bundles (
	node_id VARCHAR(255) NOT NULL, 
	sequence BIGINT NOT NULL, 
	fingerprint VARCHAR(255) NOT NULL, 
	contents JSON NOT NULL, 
	hand_time BIGINT, 
	adopted_fingerprint VARCHAR(255), 
	held JSON NOT NULL, 
	adopt_time BIGINT, 
	accepts BOOLEAN NOT NULL, 
	last_report VARCHAR(255), 
	CONSTRAINT pk_secret_bundles PRIMARY KEY (node_id), 
	CONSTRAINT fk_secret_bundles_node_id_nodes FOREIGN KEY(node_id) REFERENCES nodes (node_id) ON DELETE CASCADE
);
INSERT INTO secret_bundles VALUES('nd-ryl4x737yvdchewo4vm4',1795764828994,'5b839cdca6a3846c1bbab020a82db34d3e8b0b6c327c900a765a560b1ab380f2','{"db/pw": 1}',1795764828994,'5b839cdca6a3846c1bbab020a82db34d3e8b0b6c327c900a765a560b1ab380f2','{"db/pw": 1}',1795764829051,1,'d1fb89b3efb74cff8f870f6138051e05-1');
INSERT INTO secret_bundles VALUES('nd-kcwl6wrqsvipldzoboao',1795764828999,'5b839cdca6a3846c1bbab020a82db34d3e8b0b6c327c900a765a560b1ab380f2','{"db/pw": 1}',1795764828999,'5b839cdca6a3846c1bbab020a82db34d3e8b0b6c327c900a765a560b1ab380f2','{"db/pw": 1}',1795764829066,1,'05c6a85b69c8483ba66650f7c09e0a05-1');
CREATE TABLE join_policies (
	join_policy_id VARCHAR(255) NOT NULL, 
	workspace_id VARCHAR(255) NOT NULL, 
	join_policy VARCHAR(255) NOT NULL, 
	platform VARCHAR(255) NOT NULL, 
	conditions JSON NOT NULL, 
	node_name VARCHAR(255), 
	labels JSON NOT NULL, 
	cluster_id VARCHAR(255), 
	reattestation JSON NOT NULL, 
	creation_time BIGINT NOT NULL, 
	CONSTRAINT pk_join_policies PRIMARY KEY (join_policy_id), 
	CONSTRAINT fk_join_policies_cluster_id_clusters FOREIGN KEY(cluster_id) REFERENCES clusters (cluster_id) ON DELETE SET NULL, 
	CONSTRAINT fk_join_policies_workspace_id_workspaces FOREIGN KEY(workspace_id) REFERENCES workspaces (workspace_id) ON DELETE CASCADE, 
	CONSTRAINT uq_join_policies_workspace_id_join_policy UNIQUE (workspace_id, join_policy)
);
CREATE TABLE join_requests (
	join_request_id VARCHAR(255) NOT NULL, 
	workspace_id VARCHAR(255) NOT NULL, 
	join_policy_id VARCHAR(255) NOT NULL, 
	node_id VARCHAR(255) NOT NULL, 
	machine_id VARCHAR(255) NOT NULL, 
	csr_sha256 VARCHAR(255) NOT NULL, 
	evidence_sha256 VARCHAR(255) NOT NULL, 
	machine JSON NOT NULL, 
	source_address VARCHAR(255), 
	state VARCHAR(255) NOT NULL, 
	creation_time BIGINT NOT NULL, 
	last_time BIGINT NOT NULL, 
	expire_time BIGINT NOT NULL, 
	decided_by VARCHAR(512), 
	CONSTRAINT pk_join_requests PRIMARY KEY (join_request_id), 
	CONSTRAINT fk_join_requests_node_id_nodes FOREIGN KEY(node_id) REFERENCES nodes (node_id) ON DELETE CASCADE, 
	CONSTRAINT fk_join_requests_workspace_id_workspaces FOREIGN KEY(workspace_id) REFERENCES workspaces (workspace_id) ON DELETE CASCADE, 
	CONSTRAINT uq_join_requests_workspace_id_machine_id_csr_sha256 UNIQUE (workspace_id, machine_id, csr_sha256)
);
CREATE TABLE locks (
	lock_id VARCHAR(255) NOT NULL, 
	kind VARCHAR(255) NOT NULL, 
	id VARCHAR(255) NOT NULL, 
	reason VARCHAR(512) NOT NULL, 
	lifetime_seconds BIGINT NOT NULL, 
	sequence BIGINT NOT NULL, 
	creation_time BIGINT NOT NULL, 
	expire_time BIGINT NOT NULL, 
	locked_by VARCHAR(512) NOT NULL, 
	ended BOOLEAN NOT NULL, 
	lift_time BIGINT, 
	lifted_by VARCHAR(512), 
	lift_sequence BIGINT, 
	CONSTRAINT pk_locks PRIMARY KEY (lock_id)
);
INSERT INTO locks VALUES('lk-uwxhb4zxiz3xvshbrrwi','node','nd-ryl4x737yvdchewo4vm4','x',7200,5,1795764829961,1795772029961,'operator/op-o5qq62i4jexktgm576ka',0,NULL,NULL,NULL);
CREATE TABLE trust_publications (
	sequence BIGINT NOT NULL, 
	fingerprint VARCHAR(255) NOT NULL, 
	time BIGINT NOT NULL, 
	CONSTRAINT pk_trust_publications PRIMARY KEY (sequence, fingerprint)
);
INSERT INTO trust_publications VALUES(3,'8fcb669c4bdee8952465af61842a5598dd08e0596bd1c724d6a7f418886044fe',1795764824850);
INSERT INTO trust_publications VALUES(4,'007f872926d6f130a41f0c07627742b5716be6e8e1cac8a817e19825c3e19249',1795764825557);
INSERT INTO trust_publications VALUES(5,'115ae5ee4f18aecd87599834c063f475cc321a89e59f9176d14210b70bfb52af',1795764829975);
INSERT INTO trust_publications VALUES(6,'25ae9a5e23ebffa9f06d6a55cbc11dc84fe1072189692ba91fd10c221ff36794',1795764833856);
CREATE TABLE trust_adoptions (
	relay_id VARCHAR(255) NOT NULL, 
	sequence BIGINT NOT NULL, 
	cut_milliseconds BIGINT NOT NULL, 
	time BIGINT NOT NULL, 
	CONSTRAINT pk_trust_adoptions PRIMARY KEY (relay_id, sequence), 
	CONSTRAINT fk_trust_adoptions_relay_id_relays FOREIGN KEY(relay_id) REFERENCES relays (relay_id) ON DELETE CASCADE
);
INSERT INTO trust_adoptions VALUES('rl-35cms7qvovwkb4uskwtp',3,0,1795764825535);
INSERT INTO trust_adoptions VALUES('rl-35cms7qvovwkb4uskwtp',4,13,1795764825620);
INSERT INTO trust_adoptions VALUES('rl-35cms7qvovwkb4uskwtp',5,3,1795764830027);
INSERT INTO trust_adoptions VALUES('rl-35cms7qvovwkb4uskwtp',6,10,1795764833916);
CREATE TABLE trust_cuts (
	cause VARCHAR(255) NOT NULL, 
	kind VARCHAR(255) NOT NULL, 
	id VARCHAR(255) NOT NULL, 
	adopter_id VARCHAR(255) NOT NULL, 
	sequence BIGINT NOT NULL, 
	links BIGINT NOT NULL, 
	streams BIGINT NOT NULL, 
	exchanges BIGINT NOT NULL, 
	time BIGINT NOT NULL, 
	CONSTRAINT pk_trust_cuts PRIMARY KEY (cause, kind, id, adopter_id, sequence)
);
CREATE TABLE node_reporters (
	node_id VARCHAR(255) NOT NULL, 
	reporter VARCHAR(255) NOT NULL, 
	sequence BIGINT NOT NULL, 
	dropped BIGINT NOT NULL, 
	time BIGINT NOT NULL, 
	CONSTRAINT pk_node_reporters PRIMARY KEY (node_id), 
	CONSTRAINT fk_node_reporters_node_id_nodes FOREIGN KEY(node_id) REFERENCES nodes (node_id) ON DELETE CASCADE
);
CREATE TABLE signers (
	signer_id VARCHAR(255) NOT NULL, 
	kind VARCHAR(255) NOT NULL, 
	form JSON NOT NULL, 
	key_names JSON NOT NULL, 
	state VARCHAR(255) NOT NULL, 
	creation_time BIGINT NOT NULL, 
	end_time BIGINT, 
	tokens_until BIGINT, 
	CONSTRAINT pk_signers PRIMARY KEY (signer_id)
);
INSERT INTO signers VALUES('939662ce9a08ec6af43c8b0178e1559e49788adfafd96d707354396700696803','ca','{"root": "-----BEGIN CERTIFICATE-----\nMIIBqTCCAU+gAwIBAgIUHuc7Oso1RbqJBoYTismVxjEepWEwCgYIKoZIzj0EAwIw\nIjEgMB4GA1UEAwwXdHJ1bmtsaW5lLmludGVybmFsIHJvb3QwHhcNMjYxMTI3MDcy\nODQzWhcNMzYxMTI0MDczMzQzWjAiMSAwHgYDVQQDDBd0cnVua2xpbmUuaW50ZXJu\nYWwgcm9vdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABHJVs59cSu78uGbF+BV6\nSaYYmGj3U+Z39zOMKspyGG1WZDioGT0h9xUBPM97WJrFdDV4unQYh+SaJ1k8CTGg\np4KjYzBhMB0GA1UdDgQWBBT4juvdycW6oK0IfMRZE30DP4hKlzAPBgNVHRMBAf8E\nBTADAQH/MA4GA1UdDwEB/wQEAwIBBjAfBgNVHSMEGDAWgBT4juvdycW6oK0IfMRZ\nE30DP4hKlzAKBggqhkjOPQQDAgNIADBFAiAjkNrTqWDQ4hXWm8vUMOdTy9miJybK\n25A0s1jaAZWbFgIhAMqJHw1S5MWtAAanpZg/h746kOvYvxIidHmrTBW8rUHh\n-----END CERTIFICATE-----\n", "issuing": "-----BEGIN CERTIFICATE-----\nMIIBsDCCAVWgAwIBAgIUOKfgBeWef4NDEVkAhYst5p5Ma9owCgYIKoZIzj0EAwIw\nIjEgMB4GA1UEAwwXdHJ1bmtsaW5lLmludGVybmFsIHJvb3QwHhcNMjYxMTI3MDcy\nODQzWhcNMzExMTI2MDczMzQzWjAlMSMwIQYDVQQDDBp0cnVua2xpbmUuaW50ZXJu\nYWwgaXNzdWluZzBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABL/t87eI/sq1nuUN\nF/fUGf4zsHce2sl608bMU1pfVqF1k3BUN6MNA+13cN6oKH9g5/dlSmBdEddtkXwD\nh/L4/+GjZjBkMB0GA1UdDgQWBBSCec5D6jbRTqJokznlxXpoBjyLGTASBgNVHRMB\nAf8ECDAGAQH/AgEAMA4GA1UdDwEB/wQEAwIBBjAfBgNVHSMEGDAWgBT4juvdycW6\noK0IfMRZE30DP4hKlzAKBggqhkjOPQQDAgNJADBGAiEA9Lx7YzLi144A2YqiOrFM\n28M88M2+8AY3oeGwUdKluhACIQCrCVJwhXPfRt7W++0qnb13EJQvPtFFx10jb+X/\ndRQEWg==\n-----END CERTIFICATE-----\n", "crosses": []}','{"root": "authority/root-key", "issuing": "authority/issuing-key"}','trusted',1795764823297,NULL,NULL);
INSERT INTO signers VALUES('CLsxSNb1AwQUUMQU3cr4XPejvBj-Nm-oFUSu2n6CBLM','signing-key','{"kid": "CLsxSNb1AwQUUMQU3cr4XPejvBj-Nm-oFUSu2n6CBLM", "alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "x": "PvTnTPmUDlLaOwf33uvVXwmdpu3eOYLdr4aDs9PCEdI", "y": "2nBV7FVCwdy_jfWpCRRd_CNVkjc9qDlfSG2Acwh8fhQ"}}','{"signing": "token-key"}','trusted',1795764823297,NULL,NULL);
CREATE TABLE rotations (
	kind VARCHAR(255) NOT NULL, 
	version BIGINT NOT NULL, 
	phase VARCHAR(255) NOT NULL, 
	incumbent_id VARCHAR(255) NOT NULL, 
	candidate_id VARCHAR(255), 
	step VARCHAR(255), 
	step_time BIGINT NOT NULL, 
	stepped_by VARCHAR(512) NOT NULL, 
	gate_sequence BIGINT NOT NULL, 
	CONSTRAINT pk_rotations PRIMARY KEY (kind), 
	CONSTRAINT fk_rotations_incumbent_id_signers FOREIGN KEY(incumbent_id) REFERENCES signers (signer_id), 
	CONSTRAINT fk_rotations_candidate_id_signers FOREIGN KEY(candidate_id) REFERENCES signers (signer_id)
);
INSERT INTO rotations VALUES('ca',1,'steady','939662ce9a08ec6af43c8b0178e1559e49788adfafd96d707354396700696803',NULL,NULL,1795764823297,'local/init',2);
INSERT INTO rotations VALUES('signing-key',1,'steady','CLsxSNb1AwQUUMQU3cr4XPejvBj-Nm-oFUSu2n6CBLM',NULL,NULL,1795764823297,'local/init',3);
CREATE TABLE trust_reports (
	subject_id VARCHAR(255) NOT NULL, 
	kind VARCHAR(255) NOT NULL, 
	trust_sequence BIGINT NOT NULL, 
	root VARCHAR(255), 
	token_key VARCHAR(255), 
	report_time BIGINT NOT NULL, 
	CONSTRAINT pk_trust_reports PRIMARY KEY (subject_id)
);
CREATE TABLE IF NOT EXISTS "commands" (
	workspace_id VARCHAR(255) NOT NULL, 
	command_id VARCHAR(255) NOT NULL, 
	submission_id VARCHAR(255) NOT NULL, 
	node_id VARCHAR(255) NOT NULL, 
	node VARCHAR(255) NOT NULL, 
	state VARCHAR(255) NOT NULL, 
	final BOOLEAN NOT NULL, 
	delivered BOOLEAN NOT NULL, 
	maybe_delivered_until BIGINT, 
	deliver_before BIGINT NOT NULL, 
	cancel_requested BOOLEAN NOT NULL, 
	exit_code BIGINT, 
	signal BIGINT, 
	reason VARCHAR(1024), 
	submit_time BIGINT NOT NULL, 
	start_time BIGINT, 
	end_time BIGINT, 
	stdout_bytes BIGINT NOT NULL, 
	stderr_bytes BIGINT NOT NULL, 
	held BOOLEAN DEFAULT 0 NOT NULL, 
	wave BIGINT, unknown_since BIGINT, event_count BIGINT DEFAULT '0' NOT NULL, stdout_dropped_bytes BIGINT, stderr_dropped_bytes BIGINT, 
	CONSTRAINT pk_commands PRIMARY KEY (workspace_id, command_id), 
	CONSTRAINT fk_commands_workspace_id_workspaces FOREIGN KEY(workspace_id) REFERENCES workspaces (workspace_id)
);
INSERT INTO commands VALUES('ws-56teovbvazzlzu5xyzz5','init-1-is-mwqvk3ieelft5u2hhdvz.nd-ryl4x737yvdchewo4vm4','init-1-is-mwqvk3ieelft5u2hhdvz.nd-ryl4x737yvdchewo4vm4','nd-ryl4x737yvdchewo4vm4','vm-2','SUCCEEDED',1,1,NULL,1795764827597,0,0,NULL,NULL,1795764827597,1795764827596,1795764827634,5,0,0,NULL,NULL,3,NULL,NULL);
INSERT INTO commands VALUES('ws-56teovbvazzlzu5xyzz5','c-485899e36f403104','c-485899e36f403104','nd-kcwl6wrqsvipldzoboao','vm-1','SUCCEEDED',1,1,NULL,1795764889098,0,0,NULL,NULL,1795764829098,1795764829177,1795764829244,0,0,0,NULL,NULL,4,NULL,NULL);
INSERT INTO commands VALUES('ws-56teovbvazzlzu5xyzz5','c-a8487453accebecb','c-a8487453accebecb','nd-ryl4x737yvdchewo4vm4','vm-2','SUCCEEDED',1,1,NULL,1795764889302,0,0,NULL,NULL,1795764829302,1795764829386,1795764829434,0,0,0,NULL,NULL,4,NULL,NULL);
CREATE TABLE IF NOT EXISTS "submissions" (
	workspace_id VARCHAR(255) NOT NULL, 
	submission_id VARCHAR(255) NOT NULL, 
	body_sha256 VARCHAR(255) NOT NULL, 
	argv JSON NOT NULL, 
	spec JSON, 
	submitted_by VARCHAR(255) NOT NULL, 
	creation_time BIGINT NOT NULL, 
	secrets JSON, 
	named VARCHAR(255), 
	parameters JSON, 
	rollout JSON, 
	rollout_open BOOLEAN DEFAULT 0 NOT NULL, 
	wave BIGINT, 
	wave_over_time BIGINT, 
	stop_reason VARCHAR(1024), 
	CONSTRAINT pk_submissions PRIMARY KEY (workspace_id, submission_id), 
	CONSTRAINT fk_submissions_workspace_id_workspaces FOREIGN KEY(workspace_id) REFERENCES workspaces (workspace_id)
);
INSERT INTO submissions VALUES('ws-56teovbvazzlzu5xyzz5','init-1-is-mwqvk3ieelft5u2hhdvz.nd-ryl4x737yvdchewo4vm4','1e9c8c43fc85e1f59d6b98c99d6428b3511e67762e5998effa4745524e934d69','["one"]','null','spiffe://trunkline.internal/control-plane',1795764827597,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO submissions VALUES('ws-56teovbvazzlzu5xyzz5','c-485899e36f403104','2418d41fc93eae9646482c3f0a2acebaeaf66f2c3f09f8ccdcbf70ce1fd84ced','["true"]','null','operator/op-o5qq62i4jexktgm576ka',1795764829098,'null',NULL,'null','null',0,NULL,NULL,NULL);
INSERT INTO submissions VALUES('ws-56teovbvazzlzu5xyzz5','c-a8487453accebecb','0238c8769a3e6c04fbe5d7f91ca7c12f754b651b21fb60804adf8ab2946d5446','["true"]','null','operator/op-o5qq62i4jexktgm576ka',1795764829302,'null',NULL,'null','null',0,NULL,NULL,NULL);
CREATE TABLE kept_outputs (
	workspace_id VARCHAR(255) NOT NULL, 
	command_id VARCHAR(255) NOT NULL, 
	node_id VARCHAR(255) NOT NULL, 
	state VARCHAR(255) NOT NULL, 
	fetch_before BIGINT NOT NULL, 
	stdout_bytes BIGINT NOT NULL, 
	stdout_head_bytes BIGINT NOT NULL, 
	stdout_tail_bytes BIGINT NOT NULL, 
	stderr_bytes BIGINT NOT NULL, 
	stderr_head_bytes BIGINT NOT NULL, 
	stderr_tail_bytes BIGINT NOT NULL, 
	kept_bytes BIGINT NOT NULL, 
	keep_time BIGINT, times JSON, 
	CONSTRAINT pk_kept_outputs PRIMARY KEY (workspace_id, command_id)
);
INSERT INTO kept_outputs VALUES('ws-56teovbvazzlzu5xyzz5','init-1-is-mwqvk3ieelft5u2hhdvz.nd-ryl4x737yvdchewo4vm4','nd-ryl4x737yvdchewo4vm4','kept',1795851227752,5,5,0,0,0,0,5,1795764827869,'{"stdout": [[0, 1795764827624]], "stderr": []}');
CREATE TABLE command_events (
	event_id INTEGER NOT NULL, 
	workspace_id VARCHAR(255) NOT NULL, 
	command_id VARCHAR(255) NOT NULL, 
	time BIGINT NOT NULL, 
	event VARCHAR(255) NOT NULL, 
	details JSON NOT NULL, 
	CONSTRAINT pk_command_events PRIMARY KEY (event_id)
);
CREATE TABLE init_scripts (
	script_id VARCHAR(255) NOT NULL, 
	workspace_id VARCHAR(255) NOT NULL, 
	cluster_id VARCHAR(255), 
	owner_id VARCHAR(255) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	position BIGINT NOT NULL, 
	enabled BOOLEAN NOT NULL, 
	content BLOB NOT NULL, 
	sha256 VARCHAR(255) NOT NULL, 
	secrets JSON, 
	created_at BIGINT NOT NULL, 
	created_by VARCHAR(512) NOT NULL, 
	updated_at BIGINT NOT NULL, 
	updated_by VARCHAR(512) NOT NULL, 
	CONSTRAINT pk_init_scripts PRIMARY KEY (script_id), 
	CONSTRAINT fk_init_scripts_cluster_id_clusters FOREIGN KEY(cluster_id) REFERENCES clusters (cluster_id) ON DELETE CASCADE, 
	CONSTRAINT fk_init_scripts_workspace_id_workspaces FOREIGN KEY(workspace_id) REFERENCES workspaces (workspace_id) ON DELETE CASCADE, 
	CONSTRAINT uq_init_scripts_owner_id_name UNIQUE (owner_id, name)
);
INSERT INTO init_scripts VALUES('is-mwqvk3ieelft5u2hhdvz','ws-56teovbvazzlzu5xyzz5',NULL,'ws-56teovbvazzlzu5xyzz5','one',0,1,X'23212f62696e2f73680a6563686f20696e69740a','1e9c8c43fc85e1f59d6b98c99d6428b3511e67762e5998effa4745524e934d69','null',1795764826673,'operator/op-o5qq62i4jexktgm576ka',1795764826673,'operator/op-o5qq62i4jexktgm576ka');
CREATE TABLE node_inits (
	node_id VARCHAR(255) NOT NULL, 
	run BIGINT NOT NULL, 
	instance VARCHAR(255), 
	state VARCHAR(255) NOT NULL, 
	reason VARCHAR(1024), 
	report JSON, 
	report_sequence BIGINT NOT NULL, 
	requested_by VARCHAR(512), 
	request_time BIGINT NOT NULL, 
	hand_time BIGINT, 
	report_time BIGINT, 
	CONSTRAINT pk_node_inits PRIMARY KEY (node_id), 
	CONSTRAINT fk_node_inits_node_id_nodes FOREIGN KEY(node_id) REFERENCES nodes (node_id) ON DELETE CASCADE
);
INSERT INTO node_inits VALUES('nd-kcwl6wrqsvipldzoboao',1,'d62efe8dfd4f5a95bf44b1e1f9df87b1','READY',NULL,'{"scripts": []}',0,NULL,1795764826221,1795764826287,NULL);
INSERT INTO node_inits VALUES('nd-ryl4x737yvdchewo4vm4',1,'dd94ac68a92eb9e4bce0b5eff2d3521a','READY',NULL,'{"scripts": [{"script_id": "is-mwqvk3ieelft5u2hhdvz", "name": "one", "sha256": "1e9c8c43fc85e1f59d6b98c99d6428b3511e67762e5998effa4745524e934d69", "state": "SUCCEEDED", "exit_code": 0, "start_time": 1795764827596, "end_time": 1795764827634}]}',5,NULL,1795764827427,1795764827516,1795764827877);
CREATE INDEX ix_audit_events_action_event_id ON audit_events (action, event_id);
CREATE INDEX ix_audit_events_time ON audit_events (time);
CREATE INDEX ix_audit_events_workspace_id_event_id ON audit_events (workspace_id, event_id);
CREATE INDEX ix_certificates_expire_time ON certificates (expire_time);
CREATE INDEX ix_certificates_subject_id_csr_sha256 ON certificates (subject_id, csr_sha256);
CREATE INDEX ix_challenges_expire_time ON challenges (expire_time);
CREATE INDEX ix_issued_answers_expire_time ON issued_answers (expire_time);
CREATE INDEX ix_revocations_sequence ON revocations (sequence);
CREATE INDEX ix_cluster_members_node_id ON cluster_members (node_id);
CREATE INDEX ix_health_observations_node_id_observation_id ON health_observations (node_id, observation_id);
CREATE INDEX ix_health_observations_time ON health_observations (time);
CREATE INDEX ix_join_tokens_workspace_id ON join_tokens (workspace_id);
CREATE INDEX ix_node_labels_label_label_value ON node_labels (label, label_value);
CREATE TRIGGER audit_events_no_UPDATE BEFORE UPDATE ON audit_events
BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END;
CREATE TRIGGER audit_events_no_DELETE BEFORE DELETE ON audit_events
BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END;
CREATE INDEX ix_secret_data_keys_key_id ON secret_data_keys (key_id);
CREATE INDEX ix_secret_grants_cluster_id ON secret_grants (cluster_id);
CREATE INDEX ix_secret_grants_node_id ON secret_grants (node_id);
CREATE INDEX ix_secret_grants_workspace_id ON secret_grants (workspace_id);
CREATE INDEX ix_nodes_machine_resource ON nodes (machine_resource);
CREATE INDEX ix_join_policies_platform ON join_policies (platform);
CREATE INDEX ix_join_requests_expire_time ON join_requests (expire_time);
CREATE INDEX ix_locks_ended_expire_time ON locks (ended, expire_time);
CREATE INDEX ix_locks_kind_id ON locks (kind, id);
CREATE INDEX ix_locks_sequence ON locks (sequence);
CREATE INDEX ix_trust_publications_time ON trust_publications (time);
CREATE INDEX ix_trust_adoptions_time ON trust_adoptions (time);
CREATE INDEX ix_trust_cuts_time ON trust_cuts (time);
CREATE INDEX ix_signers_kind_state ON signers (kind, state);
CREATE INDEX ix_commands_final_end_time ON commands (final, end_time);
CREATE INDEX ix_commands_workspace_id_submit_time_command_id ON commands (workspace_id, submit_time, command_id);
CREATE INDEX ix_commands_workspace_id_submission_id ON commands (workspace_id, submission_id);
CREATE INDEX ix_commands_node_id ON commands (node_id);
CREATE INDEX ix_submissions_rollout_open ON submissions (rollout_open);
CREATE INDEX ix_submissions_workspace_id_creation_time_submission_id ON submissions (workspace_id, creation_time, submission_id);
CREATE INDEX ix_kept_outputs_keep_time ON kept_outputs (keep_time);
CREATE INDEX ix_kept_outputs_state_keep_time ON kept_outputs (state, keep_time);
CREATE INDEX ix_command_events_workspace_id_command_id_event_id ON command_events (workspace_id, command_id, event_id);
CREATE INDEX ix_init_scripts_cluster_id ON init_scripts (cluster_id);
CREATE INDEX ix_init_scripts_workspace_id ON init_scripts (workspace_id);
CREATE INDEX ix_node_inits_state ON node_inits (state);
COMMIT;
