"""What a process notes of its work, and how whoever looks after it is answered."""
