"""The one place that touches secrets: kubeconfigs, tokens, certificates, plugins."""
