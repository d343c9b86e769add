"""What starts a training run: uploads, schedules, people, and the end of the run before."""
