// Modules of which only the CRDs are used: lab/crds.py.
module stoker.dev/lab/go/crds

go 1.26.0

require (
	sigs.k8s.io/cluster-api v1.14.2
	sigs.k8s.io/karpenter v1.14.0
)
