namespace KvNode.Server.Commands;

/// <summary>What every row must satisfy; checked once, when the table is made.</summary>
internal static class CommandRules
{
    /// <param name="container">The row whose subcommand this is, or null.</param>
    /// <exception cref="ArgumentException">The row breaks a rule.</exception>
    public static void Check(CommandSpec row, CommandSpec? container)
    {
        var name = CommandNames.KeyOf(row);
        var fullName = container is null ? name : $"{container.Name}|{name}";
        Require(row, row.Name == fullName, "has a name that does not fit its place");
        Require(row, !row.Name.Any(char.IsAsciiLetterLower), "is not named in upper case");
        Require(row, row.Arity != 0, "has no arity");
        Require(row, row.Summary.Length > 0 && row.Group.Length > 0, "lacks a summary or a group");
        CheckKind(row);
        CheckKeys(row);
        CheckSyntax(row, container);
        foreach (var subcommand in row.Subcommands)
        {
            Require(row, container is null, "nests subcommands twice");
            Check(subcommand, row);
        }
    }

    private static void CheckKind(CommandSpec row)
    {
        var writes = row is WriteCommand;
        var reads = row is ReadCommand or StreamCommand;
        Require(row, writes == row.Flags.HasFlag(CommandFlags.Write), "is a write in flags or in kind only");
        Require(row, reads == row.Flags.HasFlag(CommandFlags.ReadOnly), "is a read in flags or in kind only");
        Require(row, row is not ContainerCommand || row.Subcommands.Length > 0, "is a container of nothing");
    }

    private static void CheckKeys(CommandSpec row)
    {
        var keys = row.Keys;
        if (keys.First == 0)
        {
            Require(row, keys == KeySpec.None, "has a key range without a first key");
            Require(row, row is not WriteCommand || row.Flags.HasFlag(CommandFlags.AnyKey), "writes no key it names");
            Require(row, row.KeyAccess == KeyAccess.None, "accesses keys it does not have");
            return;
        }

        Require(row, keys.Step > 0 && (keys.Last < 0 || keys.Last >= keys.First), "has an impossible key range");
        Require(row, Math.Abs(row.Arity) > keys.First, "may be called without its first key");
        Require(row, row.KeyAccess != KeyAccess.None, "does not say what it does with its keys");
    }

    private static void CheckSyntax(CommandSpec row, CommandSpec? container)
    {
        CommandArgument[] arguments;
        try
        {
            arguments = CommandSyntax.Parse(row.Syntax, row.Keys.First > 0);
        }
        catch (FormatException e)
        {
            throw new ArgumentException(
                $"command {row.Name} has a syntax that does not parse: {e.Message}", nameof(row), e);
        }

        if (row.Subcommands.Length > 0)
        {
            Require(row, row.Syntax.Length == 0, "has subcommands and a syntax of its own");
            return;
        }

        var (wordsMin, variable) = CommandSyntax.Measure(arguments);
        var named = (container is null ? 1 : 2) + wordsMin;
        Require(row, Math.Abs(row.Arity) == named, "has an arity that its syntax does not have");
        Require(row, row.Arity < 0 || !variable, "takes a fixed number of arguments of a syntax that varies");
    }

    private static void Require(CommandSpec row, bool holds, string otherwise)
    {
        if (!holds)
        {
            throw new ArgumentException($"command {row.Name} {otherwise}", nameof(row));
        }
    }
}
