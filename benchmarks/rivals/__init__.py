"""What others do, on the same models and machine, for the row beside ours."""
