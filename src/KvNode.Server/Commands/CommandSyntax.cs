namespace KvNode.Server.Commands;

/// <summary>One argument as COMMAND DOCS describes it.</summary>
/// <param name="Name">Lower case.</param>
/// <param name="Type">Redis's word: key, string, integer, pattern, pure-token, oneof, block.</param>
/// <param name="Token">The word that announces it, upper case; "" for none.</param>
/// <param name="Arguments">What a block or a choice consists of.</param>
internal sealed record CommandArgument(
    string Name, string Type, string Token, bool Optional, bool Multiple, CommandArgument[] Arguments);

/// <summary>
/// Turns the syntax a row shows to people into the argument tree that COMMAND DOCS and redis-cli's hints want.
/// </summary>
/// <remarks>
/// <code>
/// sequence = item *( item )
/// item     = "[" choice "]"                optional
///          | "&lt;" choice "&gt;"                required, exactly one
///          | name                          lower case: an operand
///          | "[" same items again "..." "]"   the items before it may be repeated
/// choice   = branch *( "|" branch )
/// branch   = TOKEN [ sequence ] | sequence
/// </code>
/// A word in capitals is a token and takes the rest of its branch as its operands. Operands named key are keys when the
/// command has a key specification; a few names are integers or patterns (<see cref="TypeOf"/>), the rest strings.
/// </remarks>
internal static class CommandSyntax
{
    /// <exception cref="FormatException">The text is not of this grammar.</exception>
    public static CommandArgument[] Parse(string syntax, bool hasKeys)
    {
        var parser = new Parser(Split(syntax), hasKeys);
        var arguments = parser.Sequence(closing: "");
        return [.. arguments];
    }

    /// <summary>Fewest words the arguments may consist of, and whether there may be more.</summary>
    public static (int WordsMin, bool Variable) Measure(ReadOnlySpan<CommandArgument> arguments)
    {
        var words = 0;
        var variable = false;
        foreach (var argument in arguments)
        {
            var (own, ownVariable) = MeasureOne(argument);
            words += argument.Optional ? 0 : own;
            variable |= ownVariable || argument.Optional || argument.Multiple;
        }

        return (words, variable);
    }

    private static (int Words, bool Variable) MeasureOne(CommandArgument argument)
    {
        var token = argument.Token.Length > 0 ? 1 : 0;
        switch (argument.Type)
        {
            case "pure-token":
                return (1, false);
            case "block":
                var (words, variable) = Measure(argument.Arguments);
                return (token + words, variable);
            case "oneof":
                var least = int.MaxValue;
                var most = 0;
                var any = false;
                foreach (var branch in argument.Arguments)
                {
                    var (branchWords, branchVariable) = MeasureOne(branch);
                    least = Math.Min(least, branchWords);
                    most = Math.Max(most, branchWords);
                    any |= branchVariable;
                }

                return (token + least, any || most != least);
            default:
                return (token + 1, false);
        }
    }

    private static List<string> Split(string syntax)
    {
        var words = new List<string>();
        foreach (var word in syntax.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            var rest = word.AsSpan();
            while (rest.Length > 0 && rest[0] is '[' or '<')
            {
                words.Add(rest[..1].ToString());
                rest = rest[1..];
            }

            var bare = rest.TrimEnd("]>");
            if (bare.Length > 0)
            {
                words.Add(bare.ToString());
            }

            foreach (var closing in rest[bare.Length..])
            {
                words.Add(closing.ToString());
            }
        }

        return words;
    }

    private static bool IsToken(string word) => char.IsAsciiLetterUpper(word[0]);

    private static string TypeOf(string name, bool hasKeys) => name switch
    {
        "key" when hasKeys => "key",
        "index" or "protover" or "client-id" or "count" => "integer",
        "pattern" => "pattern",
        _ => "string",
    };

    private sealed class Parser(List<string> words, bool hasKeys)
    {
        private int _at;

        /// <summary>Items up to <paramref name="closing"/> (taken too), <c>|</c> (left), or the end.</summary>
        public List<CommandArgument> Sequence(string closing)
        {
            var items = new List<CommandArgument>();
            var starts = new List<int>();
            while (_at < words.Count && words[_at] != "|" && words[_at] != closing)
            {
                var start = _at;
                if (words[_at] == "[" && TryRepeat(items, starts))
                {
                    continue;
                }

                starts.Add(start);
                items.Add(Item());
            }

            Require(closing.Length == 0 ? _at == words.Count : _at < words.Count, "a bracket does not close");
            return items;
        }

        private CommandArgument Item()
        {
            var word = words[_at++];
            switch (word)
            {
                case "[":
                    return Choice("]") with { Optional = true };
                case "<":
                    return Choice(">");
                default:
                    Require(char.IsAsciiLetterLower(word[0]), $"'{word}' has no place here");
                    return new CommandArgument(word, TypeOf(word, hasKeys), "", Optional: false, Multiple: false, []);
            }
        }

        private CommandArgument Choice(string closing)
        {
            var branches = new List<CommandArgument> { Branch(closing) };
            while (words[_at] == "|")
            {
                _at++;
                branches.Add(Branch(closing));
            }

            _at++;
            return branches.Count == 1
                ? branches[0]
                : new CommandArgument(Joined(branches), "oneof", "", Optional: false, Multiple: false, [.. branches]);
        }

        private CommandArgument Branch(string closing)
        {
            Require(_at < words.Count, "a bracket does not close");
            var token = IsToken(words[_at]) ? words[_at++] : "";
            var items = Sequence(closing);
            if (items.Count == 0)
            {
                Require(token.Length > 0, "empty brackets");
                return new CommandArgument(
                    token.ToLowerInvariant(), "pure-token", token, Optional: false, Multiple: false, []);
            }

            // A repeated operand behind a token repeats without the token, so it needs a block around it.
            if (items.Count == 1 && items[0].Token.Length == 0 && (token.Length == 0 || !items[0].Multiple))
            {
                return items[0] with { Token = token };
            }

            return new CommandArgument(Joined(items), "block", token, Optional: false, Multiple: false, [.. items]);
        }

        /// <summary>Reads <c>[ same words ... ]</c> and marks what it repeats; otherwise reads nothing.</summary>
        private bool TryRepeat(List<CommandArgument> items, List<int> starts)
        {
            var end = words.IndexOf("]", _at);
            if (end < 0 || words[end - 1] != "..." || words.IndexOf("[", _at + 1, end - _at - 1) >= 0)
            {
                return false;
            }

            // The repeated words are the last ones before the bracket; they must be whole items.
            var length = end - _at - 2;
            var first = starts.LastIndexOf(_at - length);
            var repeats = first >= 0 && Repeats(_at - length, _at + 1, length);
            Require(repeats, "'...' does not repeat what stands before it");
            var repeated = items.GetRange(first, items.Count - first);
            items.RemoveRange(first, repeated.Count);
            starts.RemoveRange(first + 1, repeated.Count - 1);
            items.Add(repeated.Count == 1
                ? repeated[0] with { Multiple = true }
                : new CommandArgument(Joined(repeated), "block", "", Optional: false, Multiple: true, [.. repeated]));
            _at = end + 1;
            return true;
        }

        private bool Repeats(int first, int second, int length)
        {
            for (var i = 0; i < length; i++)
            {
                if (words[first + i] != words[second + i])
                {
                    return false;
                }
            }

            return length > 0;
        }

        private static string Joined(List<CommandArgument> arguments) =>
            string.Join('_', arguments.Select(argument => argument.Name));

        private static void Require(bool holds, string otherwise)
        {
            if (!holds)
            {
                throw new FormatException(otherwise);
            }
        }
    }
}
