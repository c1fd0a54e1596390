# cmake -DINPUT=file -DOUTPUT=file.c -DNAME=symbol -P embed.cmake: the bytes of a file as a C array.
file(READ ${INPUT} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE ${OUTPUT} "#include <stddef.h>
extern const unsigned char ${NAME}[];
extern const size_t ${NAME}_bytes;
const unsigned char ${NAME}[] = {${bytes}};
const size_t ${NAME}_bytes = sizeof ${NAME};
")
