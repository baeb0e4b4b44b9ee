"""The images, checked in containers of them."""
