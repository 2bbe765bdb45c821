import threading

FOUND = []


def work():
    import odd.starred

    FOUND.append(odd.starred.WHO)


if hasattr(threading, "main_thread"):  # with the one lock of Python 2 it would wait for ever
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
