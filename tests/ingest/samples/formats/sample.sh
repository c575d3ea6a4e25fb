#!/bin/sh
tide() {
    echo 62
}
