"""kiptail tells pods' owners, with Kubernetes Events, which packets netfilter dropped."""

__version__ = "0.1.0"
