"""The manifests of config/kubernetes: built, and checked against Kubernetes' schemas and against the programs."""
