"""What is known of a running Tailrace: status, metrics, health, the doctor."""
