"""Complete models, one file each, and how they are saved, loaded and fed; public ones are in `pretrained`."""
