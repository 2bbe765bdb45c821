WHO = "no package"
