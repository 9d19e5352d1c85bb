print("which")
