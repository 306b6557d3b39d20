"""How much of an image is left after pooling: SSIM and PSNR, as in the paper's section 4.2."""
