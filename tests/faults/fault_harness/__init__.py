"""What the fault tests, the random program and the kill benchmark share. No part of it is shipped."""
