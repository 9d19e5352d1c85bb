// Modules of which only the CRDs are used: lab/crds.py.
module stoker.dev/lab/go/crds

go 1.26.0

require (
	k8s.io/autoscaler/cluster-autoscaler/apis v0.0.0-20240830133931-adfbe7e45277
	sigs.k8s.io/cluster-api v1.14.2
	sigs.k8s.io/karpenter v1.14.0
	sigs.k8s.io/kueue v0.18.4
)
