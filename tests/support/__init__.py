"""What tests share: things that behave like the real ones, and ways to run kiptail."""
