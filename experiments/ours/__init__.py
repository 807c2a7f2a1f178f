"""What the papers do not show: curvature inside the mask, and rates predicted without training."""
