"""Who is right, at what price: ray job submit --working-dir . -- python jobs/evaluate.py COLLABORATION --task YAML"""

from colllm_ray.cli import main

if __name__ == "__main__":
    main("evaluate")
