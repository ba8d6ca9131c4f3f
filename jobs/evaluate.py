"""Who is right, who writes what: ray job submit --working-dir . -- python jobs/evaluate.py COLLABORATION --data URI"""

from colllm_ray.cli import main

if __name__ == "__main__":
    main("evaluate")
