"""How recordings are counted, the same in every family and modality of speech."""

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = 320
"""From the beginning of one frame to that of the next: 50 frames a second."""
WINDOW_SAMPLES = 400
"""What one frame sees."""


def num_frames(num_samples: int) -> int:
    """Frames of a recording; 0 if it is shorter than one."""
    return max(0, (num_samples - WINDOW_SAMPLES) // FRAME_SAMPLES + 1)
