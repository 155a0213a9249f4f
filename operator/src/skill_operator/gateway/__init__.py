"""The way in: finds a Skill's pod and relays the call to it. It writes nothing and reads no Secret."""
