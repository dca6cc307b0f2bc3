"""Images as data URIs, so that a page can hold them."""

__all__ = ["data_uri"]

import base64
import io

from matplotlib.image import imsave
from torch import Tensor


def data_uri(image: Tensor) -> str:
    """An image as a PNG file in a data URI.

    Arguments:
        image: The image in [0, 1], with shape (C, H, W), with one channel or three; of any other
            number, the mean is shown.
    """
    channels = image if len(image) == 3 else image.mean(dim=0, keepdim=True).expand(3, -1, -1)
    pixels = (channels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0)  # (H, W, 3)
    with io.BytesIO() as file:
        imsave(file, pixels.cpu().numpy(), format="png")
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
