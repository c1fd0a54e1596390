/* Runs every file of a corpus folder once through a fuzz target: fuzz_<name> FOLDER. The file's name is printed first,
 * so that a crash tells which one it was. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *folder, const char *name)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return -1;
    printf("%s\n", path);
    (void)fflush(stdout);
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        perror(path);
        return -1;
    }
    long size = ftell(file);
    rewind(file);
    /* Exactly as long as the input, so that a sanitizer sees the first byte beyond it. */
    uint8_t *data = malloc(size > 0 ? (size_t)size : 1);
    int err = data == NULL || size < 0 || fread(data, 1, (size_t)size, file) != (size_t)size;
    if (err == 0) (void)LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    (void)fclose(file);
    return err == 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct dirent **names;
    if (argc != 2) {
        (void)fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    int count = scandir(argv[1], &names, NULL, alphasort), ran = 0, failed = 0;
    if (count < 0) {
        perror(argv[1]);
        return 1;
    }
    for (int i = 0; i < count; i++) {
        if (names[i]->d_name[0] != '.') {
            failed += run_file(argv[1], names[i]->d_name) != 0;
            ran++;
        }
        free(names[i]);
    }
    free(names);
    printf("%d inputs\n", ran);
    return ran == 0 || failed != 0;
}
