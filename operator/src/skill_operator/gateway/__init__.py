"""The gateway finds a Skill's pod and relays the call to it. It writes nothing but scales, and reads no Secret."""
