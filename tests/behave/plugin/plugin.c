/* A shared object for the behaviours of dlopen. */
int behave_plugin_answer(void);

int behave_plugin_answer(void)
{
	return 42;
}
