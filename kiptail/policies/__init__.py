"""Why a packet does not get through, and what would let it: networking.k8s.io/v1 NetworkPolicies, evaluated (pure)."""
