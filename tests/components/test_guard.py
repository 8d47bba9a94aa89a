"""What the guard says to a person; what it does is tested with the trainer."""

from components.guard import listed


def test_batch_numbers_are_written_as_the_command_takes_them() -> None:
    assert listed([12, 1040, 1_234_567]) == "12, 1040, 1234567"
