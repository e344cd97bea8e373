"""Is what was measured worse than the committed baseline?"""
