"""Networks that MONAI lacks, in 3D. A bundle's configs name the classes below; each is public and stays where it is."""

from volseg.networks.deeplab import DeepLabV3Plus
from volseg.networks.resenc import ResidualEncoderUNet
from volseg.networks.segnet import SegNet

__all__ = ["DeepLabV3Plus", "ResidualEncoderUNet", "SegNet"]
