using System.Globalization;
using System.Text;
using KvNode.Server.Resp;

namespace KvNode.Server.Commands;

/// <summary>CLIENT: connections as seen by people.</summary>
internal static class ClientCommands
{
    private const CommandFlags Anytime = CommandFlags.NoScript | CommandFlags.Loading | CommandFlags.Stale;

    public static CommandSpec[] Table { get; } =
    [
        new ContainerCommand("CLIENT", "connection", "Connections.")
        {
            Since = "2.4.0",
            Complexity = "Depends on subcommand.",
            Subcommands = Subcommands(),
        },
    ];

    /// <summary>Whether CLIENT LIST can show it: printable ASCII without blanks. Empty means "no name".</summary>
    public static bool IsName(ReadOnlySpan<byte> text) => !text.ContainsAnyExceptInRange((byte)'!', (byte)'~');

    private static CommandSpec[] Subcommands() =>
    [
        new LocalCommand("CLIENT|ID", 2, Anytime, "connection", "Returns this connection's number.",
            (ref LocalContext cx) => cx.Reply.Integer(cx.Client.Info.Id))
        {
            Since = "5.0.0",
            Acl = AclCategories.Connection,
        },
        new LocalCommand("CLIENT|GETNAME", 2, Anytime, "connection", "Returns this connection's name.", GetName)
        {
            Since = "2.6.9",
            Acl = AclCategories.Connection,
        },
        new LocalCommand("CLIENT|SETNAME", 3, Anytime, "connection", "Names this connection.", SetName)
        {
            Syntax = "connection-name",
            Since = "2.6.9",
            Acl = AclCategories.Connection,
        },
        new LocalCommand("CLIENT|SETINFO", 4, Anytime, "connection",
            "Notes the name or the version of this connection's client library.", SetInfo)
        {
            Syntax = "<LIB-NAME libname | LIB-VER libver>",
            Since = "7.2.0",
            Acl = AclCategories.Connection,
        },
        new LocalCommand("CLIENT|LIST", -2, Anytime | CommandFlags.Admin, "connection", "Lists the connections.", List)
        {
            Syntax = "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]",
            Complexity = "O(N) where N is the number of connections.",
            Acl = AclCategories.Connection,
            Since = "2.4.0",
            Tips = ["nondeterministic_output"],
        },
        new LocalCommand("CLIENT|INFO", 2, Anytime, "connection", "Describes this connection.", Info)
        {
            Since = "6.2.0",
            Acl = AclCategories.Connection,
            Tips = ["nondeterministic_output"],
        },
        new LocalCommand("CLIENT|NO-EVICT", 3, Anytime | CommandFlags.Admin, "connection",
            "Notes that this connection should not be closed to save memory.", NoEvict)
        {
            Syntax = "<ON | OFF>",
            Since = "7.0.0",
            Acl = AclCategories.Connection,
        },
        new LocalCommand("CLIENT|HELP", 2, CommandFlags.Loading | CommandFlags.Stale, "connection", "Prints this help.",
            (ref LocalContext cx) => CommandHelp.Write(cx.Reply, "CLIENT"))
        {
            Since = "5.0.0",
            Acl = AclCategories.Connection,
        },
    ];

    private static void GetName(ref LocalContext cx)
    {
        if (cx.Client.Info.Name.Length == 0)
        {
            cx.Reply.Null();
        }
        else
        {
            cx.Reply.Bulk(Encoding.ASCII.GetBytes(cx.Client.Info.Name));
        }
    }

    private static void SetName(ref LocalContext cx)
    {
        if (!IsName(cx.Args[2]))
        {
            cx.Reply.Error(RespError.ClientName);
            return;
        }

        cx.Client.Info.Name = Encoding.ASCII.GetString(cx.Args[2]);
        cx.Reply.Ok();
    }

    private static void SetInfo(ref LocalContext cx)
    {
        var isName = Ascii.EqualsIgnoreCase(cx.Args[2], "LIB-NAME"u8);
        if (!isName && !Ascii.EqualsIgnoreCase(cx.Args[2], "LIB-VER"u8))
        {
            RespError.UnknownClientInfo(cx.Reply, cx.Args[2]);
            return;
        }

        if (!IsName(cx.Args[3]))
        {
            RespError.ClientInfoValue(cx.Reply, cx.Args[2]);
            return;
        }

        var value = Encoding.ASCII.GetString(cx.Args[3]);
        if (isName)
        {
            cx.Client.Info.LibraryName = value;
        }
        else
        {
            cx.Client.Info.LibraryVersion = value;
        }

        cx.Reply.Ok();
    }

    private static void NoEvict(ref LocalContext cx)
    {
        var on = Ascii.EqualsIgnoreCase(cx.Args[2], "ON"u8);
        if (!on && !Ascii.EqualsIgnoreCase(cx.Args[2], "OFF"u8))
        {
            cx.Reply.Error(RespError.Syntax);
            return;
        }

        cx.Client.Info.NoEvict = on;
        cx.Reply.Ok();
    }

    private static void Info(ref LocalContext cx)
    {
        var text = new StringBuilder();
        Describe(text, cx.Client.Info);
        cx.Reply.VerbatimText(Encoding.UTF8.GetBytes(text.ToString()));
    }

    private static void List(ref LocalContext cx)
    {
        if (!TryReadFilter(ref cx, out var ids, out var none))
        {
            return;
        }

        var text = new StringBuilder();
        foreach (var client in cx.Node.Clients)
        {
            if (!none && (ids is null || ids.Contains(client.Id)))
            {
                Describe(text, client);
            }
        }

        cx.Reply.VerbatimText(Encoding.UTF8.GetBytes(text.ToString()));
    }

    /// <param name="ids">The connections asked for; null for all.</param>
    /// <param name="none">A type was asked for that no connection here has.</param>
    private static bool TryReadFilter(ref LocalContext cx, out HashSet<long>? ids, out bool none)
    {
        ids = null;
        none = false;
        if (cx.Args.Count == 2)
        {
            return true;
        }

        if (cx.Args.Count == 4 && Ascii.EqualsIgnoreCase(cx.Args[2], "TYPE"u8))
        {
            return TryReadType(ref cx, out none);
        }

        if (cx.Args.Count == 3 || !Ascii.EqualsIgnoreCase(cx.Args[2], "ID"u8))
        {
            cx.Reply.Error(RespError.Syntax);
            return false;
        }

        ids = [];
        for (var i = 3; i < cx.Args.Count; i++)
        {
            if (!CommandNumbers.TryParse(cx.Args[i], out var id))
            {
                cx.Reply.Error(RespError.ClientId);
                return false;
            }

            ids.Add(id);
        }

        return true;
    }

    private static bool TryReadType(ref LocalContext cx, out bool none)
    {
        var type = cx.Args[3];
        none = Ascii.EqualsIgnoreCase(type, "MASTER"u8) || Ascii.EqualsIgnoreCase(type, "REPLICA"u8)
            || Ascii.EqualsIgnoreCase(type, "SLAVE"u8) || Ascii.EqualsIgnoreCase(type, "PUBSUB"u8);
        if (none || Ascii.EqualsIgnoreCase(type, "NORMAL"u8))
        {
            return true;
        }

        RespError.UnknownClientType(cx.Reply, type);
        return false;
    }

    /// <summary>One line of CLIENT LIST, as Redis 7.0 writes it, with 7.2's library fields at its end.</summary>
    private static void Describe(StringBuilder text, ClientInfo client)
    {
        var now = Environment.TickCount64;
        var flags = client.NoEvict ? "e" : "N";
        var events = client.OutputBufferBytes > 0 ? "rw" : "r";
        var age = Math.Max(0, now - client.ConnectedAtMs) / 1000;
        var idle = Math.Max(0, now - client.LastActiveMs) / 1000;
        text.Append(CultureInfo.InvariantCulture, $"id={client.Id} addr={client.RemoteAddress} ");
        text.Append(CultureInfo.InvariantCulture, $"laddr={client.LocalAddress} fd={client.FileDescriptor} ");
        text.Append(CultureInfo.InvariantCulture, $"name={client.Name} age={age} idle={idle} flags={flags} ");
        text.Append("db=0 sub=0 psub=0 ssub=0 multi=-1 ");
        text.Append(CultureInfo.InvariantCulture, $"qbuf={client.QueryBufferBytes} qbuf-free=0 ");
        text.Append("argv-mem=0 multi-mem=0 ");
        text.Append(CultureInfo.InvariantCulture, $"rbs=0 rbp=0 obl={client.OutputBufferBytes} oll=0 omem=0 ");
        text.Append(CultureInfo.InvariantCulture, $"tot-mem={client.QueryBufferBytes + client.OutputBufferBytes} ");
        text.Append(CultureInfo.InvariantCulture, $"events={events} cmd={client.LastCommand} user=default redir=-1 ");
        text.Append(CultureInfo.InvariantCulture, $"resp={client.Protocol} lib-name={client.LibraryName} ");
        text.Append(CultureInfo.InvariantCulture, $"lib-ver={client.LibraryVersion}\n");
    }
}
