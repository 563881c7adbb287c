"""The optional test on a real KubeRay: `make kube-test`."""
