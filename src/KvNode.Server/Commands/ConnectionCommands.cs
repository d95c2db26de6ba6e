using System.Text;
using KvNode.Raft;
using KvNode.Server.Resp;

namespace KvNode.Server.Commands;

/// <summary>What concerns one connection only.</summary>
internal static class ConnectionCommands
{
    private const CommandFlags Anytime = CommandFlags.Loading | CommandFlags.Stale | CommandFlags.Fast;

    /// <summary>Allowed before authentication and while the server is busy.</summary>
    private const CommandFlags Handshake =
        Anytime | CommandFlags.NoScript | CommandFlags.NoAuth | CommandFlags.AllowBusy;

    public static CommandSpec[] Table { get; } =
    [
        new LocalCommand("PING", -1, CommandFlags.Fast, "connection", "Answers PONG, or the message.", Ping)
        {
            Syntax = "[message]",
            Acl = AclCategories.Connection,
            Tips = ["request_policy:all_shards", "response_policy:all_succeeded"],
            Check = PingFits,
        },
        new LocalCommand("ECHO", 2, Anytime, "connection", "Returns the message.", Echo)
        {
            Syntax = "message",
            Acl = AclCategories.Connection,
        },
        new LocalCommand("QUIT", -1, Handshake, "connection",
            "Closes the connection after everything asked before has been answered.", Quit)
        {
            Acl = AclCategories.Connection,
        },
        new LocalCommand("SELECT", 2, Anytime, "connection", "Selects the database: there is one, 0.", Select)
        {
            Syntax = "index",
            Acl = AclCategories.Connection,
        },
        new LocalCommand("READONLY", 1, Anytime, "cluster",
            "Lets this connection read from this node's own state, which may be old, whatever the node's level.",
            (ref LocalContext cx) => SetReadOnly(ref cx, true))
        {
            Since = "3.0.0",
            Acl = AclCategories.Connection,
        },
        new LocalCommand("READWRITE", 1, Anytime, "cluster",
            "Ends READONLY: this connection reads at the node's level again.",
            (ref LocalContext cx) => SetReadOnly(ref cx, false))
        {
            Since = "3.0.0",
            Acl = AclCategories.Connection,
        },
        new LocalCommand("HELLO", -1, Handshake, "connection",
            "Chooses the protocol version, names the connection, and tells who answers.", Hello)
        {
            Syntax = "[protover [AUTH username password] [SETNAME clientname]]",
            Since = "6.0.0",
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

    private static bool PingFits(CommandArgs args, RespWriter reply)
    {
        if (args.Count <= 2)
        {
            return true;
        }

        RespError.WrongArity(reply, "ping"u8);
        return false;
    }

    private static void Echo(ref LocalContext cx) => cx.Reply.Bulk(cx.Args[1]);

    private static void Quit(ref LocalContext cx)
    {
        cx.Reply.Ok();
        cx.Client.CloseAfterReply();
    }

    private static void SetReadOnly(ref LocalContext cx, bool readOnly)
    {
        cx.Client.SetReadOnly(readOnly);
        cx.Reply.Ok();
    }

    private static void Select(ref LocalContext cx)
    {
        if (!CommandNumbers.TryParse(cx.Args[1], out var index))
        {
            cx.Reply.Error(RespError.NotInteger);
        }
        else if (index != 0)
        {
            cx.Reply.Error(RespError.DbIndexOutOfRange);
        }
        else
        {
            cx.Reply.Ok();
        }
    }

    private static void Hello(ref LocalContext cx)
    {
        var version = 0L;
        if (cx.Args.Count > 1 && !CommandNumbers.TryParse(cx.Args[1], out version))
        {
            cx.Reply.Error(RespError.ProtocolNotInteger);
            return;
        }

        if (cx.Args.Count > 1 && version is not (2 or 3))
        {
            cx.Reply.Error(RespError.ProtocolUnsupported);
            return;
        }

        if (!TryHelloOptions(ref cx, out var nameAt))
        {
            return;
        }

        if (nameAt > 0)
        {
            cx.Client.Info.Name = Encoding.ASCII.GetString(cx.Args[nameAt]);
        }

        if (version != 0)
        {
            cx.Client.SetProtocol((int)version);
        }

        Introduce(ref cx);
    }

    /// <summary>Reads the options and changes nothing; false after the error has been written.</summary>
    private static bool TryHelloOptions(ref LocalContext cx, out int nameAt)
    {
        nameAt = 0;
        for (var i = 2; i < cx.Args.Count; i++)
        {
            var more = cx.Args.Count - 1 - i;
            if (Ascii.EqualsIgnoreCase(cx.Args[i], "AUTH"u8) && more >= 2)
            {
                // As a Redis without a password: the default user may pass with any, and there is no other user.
                if (!cx.Args[i + 1].SequenceEqual("default"u8))
                {
                    cx.Reply.Error(RespError.WrongPassword);
                    return false;
                }

                i += 2;
            }
            else if (Ascii.EqualsIgnoreCase(cx.Args[i], "SETNAME"u8) && more >= 1)
            {
                nameAt = ++i;
                if (!ClientCommands.IsName(cx.Args[nameAt]))
                {
                    cx.Reply.Error(RespError.ClientName);
                    return false;
                }
            }
            else
            {
                RespError.HelloOption(cx.Reply, cx.Args[i]);
                return false;
            }
        }

        return true;
    }

    private static void Introduce(ref LocalContext cx)
    {
        var reply = cx.Reply;
        reply.MapHeader(7);
        reply.Bulk("server"u8);
        reply.Bulk("redis"u8);
        reply.Bulk("version"u8);
        reply.Bulk(Encoding.ASCII.GetBytes(ProductVersion.Redis));
        reply.Bulk("proto"u8);
        reply.Integer(cx.Client.Info.Protocol);
        reply.Bulk("id"u8);
        reply.Integer(cx.Client.Info.Id);
        reply.Bulk("mode"u8);
        reply.Bulk("standalone"u8);
        reply.Bulk("role"u8);
        reply.Bulk(cx.Node.Status.Role == RaftRole.Leader ? "master"u8 : "replica"u8);
        reply.Bulk("modules"u8);
        reply.ArrayHeader(0);
    }
}
