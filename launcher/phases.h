/* FATPAR=time: how long each phase of a launch takes. Unless it was asked for, none of this does anything. */

/* the first phase begins; they are told under this name, which is kept, not copied */
void phasesbegin(const char *name);

/* go on under another name */
void phasesname(const char *name);

/* whether it was asked for */
int phasesasked(void);

/* a phase has ended, and the next one begins: what it was */
void phaseended(const char *what);

/* say on standard error what took how long, as far as it was not said */
void phasestell(void);
