"""GS4D Studio: a pack of ComfyUI nodes for moving 3D Gaussian scenes. Nothing of ComfyUI is imported before it asks."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    from .nodes import extension

    return extension()
