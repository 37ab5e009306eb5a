"""The parts over Kafka: each role as a process, and what they have in common."""
