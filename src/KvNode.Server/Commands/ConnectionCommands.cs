namespace KvNode.Server.Commands;

/// <summary>What concerns one connection only.</summary>
internal static class ConnectionCommands
{
    public static CommandSpec[] Table { get; } =
    [
        new LocalCommand("PING", -1, CommandFlags.Fast, "connection", "Answers PONG, or the message.", Ping)
        {
            Syntax = "[message]",
            Acl = AclCategories.Connection,
            Tips = ["request_policy:all_shards", "response_policy:all_succeeded"],
            Check = (args, reply) =>
            {
                if (args.Count <= 2)
                {
                    return true;
                }

                reply.Error("ERR wrong number of arguments for 'ping' command"u8);
                return false;
            },
        },
        new LocalCommand("ECHO", 2, CommandFlags.Loading | CommandFlags.Stale | CommandFlags.Fast, "connection",
            "Returns the message.", Echo)
        {
            Syntax = "message",
            Acl = AclCategories.Connection,
        },
    ];

    private static void Ping(ref LocalContext cx)
    {
        if (cx.Args.Count == 1)
        {
            cx.Reply.SimpleString("PONG"u8);
        }
        else
        {
            cx.Reply.Bulk(cx.Args[1]);
        }
    }

    private static void Echo(ref LocalContext cx) => cx.Reply.Bulk(cx.Args[1]);
}
