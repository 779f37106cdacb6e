"""How hosts show both services: two panels, as a diptych has. In the answer itself, because nothing is fetched from anywhere."""

from base64 import b64encode
from typing import Final

_PANELS: Final = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><path d='M1 1h6v14H1zM9 1h6v14H9z'/></svg>"
)

MEDIA_TYPE: Final = "image/svg+xml"
ADDRESS: Final = f"data:{MEDIA_TYPE};base64,{b64encode(_PANELS.encode()).decode()}"
