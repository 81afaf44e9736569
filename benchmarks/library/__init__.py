"""The C library beside Python."""
