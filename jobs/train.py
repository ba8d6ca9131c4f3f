"""The head learns who should write: ray job submit --working-dir . -- python jobs/train.py CONFIG --out URI"""

from colllm_ray.cli import main

if __name__ == "__main__":
    main("train")
