"""Pure text work: what personal data a text holds, what stands instead of it, and the way back."""
