using System.Diagnostics.CodeAnalysis;
using KvNode.Server.Resp;
using KvNode.Storage;

namespace KvNode.Server.Commands;

/// <summary>
/// Every command the server knows. Immutable; any thread.
/// </summary>
internal sealed class CommandTable
{
    private readonly CommandSpec[] _rows;
    private readonly CommandNames _names;

    /// <exception cref="ArgumentException">A row contradicts itself or another one.</exception>
    public CommandTable(params ReadOnlySpan<CommandSpec[]> families)
    {
        var rows = new List<CommandSpec>();
        foreach (var family in families)
        {
            rows.AddRange(family);
        }

        _rows = [.. rows];
        _names = new CommandNames(_rows);
        foreach (var row in _rows)
        {
            CommandRules.Check(row, container: null);
        }
    }

    /// <summary>The commands of this server. A new family adds one name here.</summary>
    public static CommandTable Default { get; } = new(
        StringCommands.Table,
        KeyCommands.Table,
        ScanCommands.Table,
        ConnectionCommands.Table,
        ClientCommands.Table,
        ServerCommands.Table,
        IntrospectionCommands.Table,
        RaftCommands.Table,
        MemberCommands.Table,
        ClusterCommands.Table);

    /// <summary>The rows, in the order of the families; subcommands are inside their containers.</summary>
    public ReadOnlySpan<CommandSpec> Rows => _rows;

    /// <summary>Finds a command by its name in any letter case. Subcommands are not found here.</summary>
    public bool TryFind(ReadOnlySpan<byte> name, [NotNullWhen(true)] out CommandSpec? spec) =>
        _names.TryFind(name, out spec);

    /// <summary>Finds a command or, by its full name (<c>config|get</c>), a subcommand.</summary>
    public bool TryFindFull(ReadOnlySpan<byte> name, [NotNullWhen(true)] out CommandSpec? spec)
    {
        var bar = name.IndexOf((byte)'|');
        if (bar < 0)
        {
            return TryFind(name, out spec);
        }

        if (TryFind(name[..bar], out spec) && spec.SubcommandNames is { } names)
        {
            return names.TryFind(name[(bar + 1)..], out spec);
        }

        spec = null;
        return false;
    }

    /// <summary>
    /// The row that runs for these arguments (a subcommand's own row where there is one), or null after the error has
    /// been written to <paramref name="reply"/>: unknown name, unknown subcommand, wrong number of arguments.
    /// </summary>
    /// <remarks>A row whose arity did not fit has its <see cref="CommandStats.Rejected"/> raised.</remarks>
    public CommandSpec? Resolve(CommandArgs args, RespWriter reply)
    {
        if (!_names.TryFind(args[0], out var spec))
        {
            RespError.UnknownCommand(reply, args);
            return null;
        }

        if (spec.SubcommandNames is { } subcommands && args.Count > 1)
        {
            if (!subcommands.TryFind(args[1], out var subcommand))
            {
                RespError.UnknownSubcommand(reply, args[0], args[1]);
                return null;
            }

            spec = subcommand;
        }

        if (!spec.ArityFits(args.Count))
        {
            Interlocked.Increment(ref spec.Stats.Rejected);
            RespError.WrongArity(reply, spec.Name);
            return null;
        }

        return spec;
    }

    /// <summary>
    /// <see cref="Resolve"/>, then everything that can be refused before anything is logged or read: keys and values
    /// over their limits, bad options. Null after the error has been written.
    /// </summary>
    /// <param name="valueBytesMax">Longest argument a write may carry into the log, in bytes.</param>
    public CommandSpec? Admit(CommandArgs args, RespWriter reply, int valueBytesMax)
    {
        var spec = Resolve(args, reply);
        if (spec is null)
        {
            return null;
        }

        if (FitsLimits(spec, args, reply, valueBytesMax) && (spec.Check is not { } check || check(args, reply)))
        {
            return spec;
        }

        Interlocked.Increment(ref spec.Stats.Rejected);
        return null;
    }

    private static bool FitsLimits(CommandSpec spec, CommandArgs args, RespWriter reply, int valueBytesMax)
    {
        // No argument is longer than the whole: one comparison clears nearly every command.
        if (args.Raw.Length <= StoreLimits.KeyBytesMax && args.Raw.Length <= valueBytesMax)
        {
            return true;
        }

        var keys = spec.Keys;
        var last = keys.Last < 0 ? args.Count + keys.Last : keys.Last;
        for (var i = keys.First; i > 0 && i <= last; i += keys.Step)
        {
            if (args[i].Length > StoreLimits.KeyBytesMax)
            {
                reply.Error(RespError.KeyTooLong);
                return false;
            }
        }

        for (var i = 1; i < args.Count && spec.Flags.HasFlag(CommandFlags.Write); i++)
        {
            if (args[i].Length > valueBytesMax)
            {
                reply.Error(RespError.Compose("ERR value is longer than "u8, valueBytesMax, " bytes"u8));
                return false;
            }
        }

        return true;
    }
}
