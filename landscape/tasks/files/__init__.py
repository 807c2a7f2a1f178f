"""Reading what others wrote: rows and images in any of their formats, and official releases."""
