from harkara_cli.main import main

main()
