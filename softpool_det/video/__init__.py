"""Action recognition with 3-D SoftPool: networks, labelled videos, multigrid training."""

from softpool_det.video.networks import NETWORKS, Network, build_network

__all__ = ["NETWORKS", "Network", "build_network"]
