from colllm_ray.cli import main

main()
