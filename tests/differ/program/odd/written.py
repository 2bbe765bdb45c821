WHO = "written"
