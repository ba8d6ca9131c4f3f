"""Every model reads the data: ray job submit --working-dir . -- python jobs/score.py CONFIG --out URI"""

from colllm_ray.cli import main

if __name__ == "__main__":
    main("score")
