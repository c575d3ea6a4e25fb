<?php
function tide($hour) {
    return 54 + $hour;
}
