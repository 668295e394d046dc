"""Names for the shapes that travel through the package. No code.

Inside, an image is a float32 tensor (b, c, h, w). A variance has the image's shape when channels are independent and
is a covariance (b, c, c, h, w) when they are not; functions that take either say `Variance`.
"""

from jaxtyping import Float
from torch import Tensor

Image = Float[Tensor, "b c h w"]
Features = Float[Tensor, "b f rows columns"]
Mask = Float[Tensor, "b 1 rows columns"]
Covariance = Float[Tensor, "b c c h w"]
Variance = Float[Tensor, "b c h w"] | Float[Tensor, "b c c h w"]
Scalar = Float[Tensor, ""]
PixelMap = Float[Tensor, "b h w"]
